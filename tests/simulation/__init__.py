"""Deterministic simulation: whole deployments on one thread, in virtual time, from one seed.

Real are the engine, the loop, the relay, the leases and claims, the store and the log with their
SQL. Simulated are what surrounds them: time, the network, processes, and the executors' machines.
Everything that happens follows from a seed, so that a failure can be looked at as often as wanted.
"""
