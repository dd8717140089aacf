"""Who tells what is true of a workload, one file each."""
