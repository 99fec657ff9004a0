module policyd.test/evidence

go 1.21
