"""What this machine has: devices, processes, threads, folders."""
