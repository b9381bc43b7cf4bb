"The commands of `semst`, one module for each."
