"""Who may ask, through what, under which agreement; and the numbered changes that say so."""
