"""A paper that nobody published: five frames in, one out, to test the core on video."""
