"""The machine and the person in front of it: terminal, options, interrupts, device, process group, local servers.

It may import `core`.
"""
