"""The programs that workloads run, each written once for any array library."""
