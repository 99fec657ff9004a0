"""policyd: purpose-based access control for the National Pupil Database."""
