"""Identity in the control process: who issues, who registers, who attests."""
