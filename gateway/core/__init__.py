"""What a node is made of: fan-out, feeds, positions, the cluster, the clock."""
