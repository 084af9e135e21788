"""Jobs at real size: trained, compressed, and measured on the exported files."""
