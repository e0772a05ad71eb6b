"""Numbers of bytes as people read them."""

from __future__ import annotations


def bytes_text(count: int) -> str:
    """ "1.2 GB", "35 MB", "812 bytes": decimal units, as disks and downloads are measured."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count:,} bytes"
