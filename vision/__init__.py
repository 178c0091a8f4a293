"""Models of images, from one hidden layer to a residual network."""
