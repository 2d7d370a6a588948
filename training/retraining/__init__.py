"""The steps of `retrain`: label, train, judge, report, swap."""
