"""Layer 6: program text to something callable; the only folder that meets devices, compilers and disks."""
