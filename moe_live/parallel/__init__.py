"""Large finished files read by several processes: where they are cut, who reads parts, who merges them."""
