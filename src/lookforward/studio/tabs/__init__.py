"""The tabs of the studio, one file each: what is shown, and what a button calls."""
