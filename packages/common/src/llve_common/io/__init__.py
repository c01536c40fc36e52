"""Reading and writing of images and frame folders."""
