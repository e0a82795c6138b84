"""What tests share: graphs, worlds, reference networks, stand-ins, processes."""
