"Measures: evaluators, labels, distances, scores, statistics."
