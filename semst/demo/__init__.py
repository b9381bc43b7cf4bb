"A small trained translator, which `from_pretrained` and the command line call demo."
