"""Our messages are the public ones: compared with other people's descriptors of them."""
