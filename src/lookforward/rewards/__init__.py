"""What a transition may be rewarded for, one small file each; docs/rewards.md has the table."""
