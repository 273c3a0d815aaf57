"""Layer 6: programs made callable; the only folder that meets devices, compilers and disks."""
