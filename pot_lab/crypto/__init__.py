"""Keys, signatures, sealed boxes, key shares, Merkle trees and canonical bytes: what every other room stands on.

Pure functions of their inputs, except where a key is generated and the operating system's randomness is asked for by
name.
"""
