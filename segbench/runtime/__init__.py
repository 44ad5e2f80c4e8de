"""Terminal, options, interrupts, device, process group and local servers.

It may import `core`.
"""
