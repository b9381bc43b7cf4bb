"Campaigns of faults: a short form in the tests, a long form by `make campaign`."
