"""smbfuse: mount SMB shares as an ordinary user, from SMB1 to SMB 3.1.1."""

__version__ = "0.1.0"
