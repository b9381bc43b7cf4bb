"The comparison of methods: protocol, data, experiments, figures."
