"""Image classifiers: the CIFAR-10 ladder, from one hidden layer to a residual network."""
