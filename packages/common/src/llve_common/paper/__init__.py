"""What a paper is to the core: the contract, and finding papers and their settings files."""
