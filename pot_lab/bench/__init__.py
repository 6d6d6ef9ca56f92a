"""Table 4 of the paper and throughput, measured on real aggregator processes of this machine.

`consensus` times a bundle of records, `throughput` saturates a network, `calibration` measures how fast the machine is
at that time, `tables` has the paper's numbers. The processes are `node`s around a `records.RecordPool`, on loopback,
with CURVE on every link and a signature under every vote and every record.
"""
