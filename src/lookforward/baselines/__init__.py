"""Methods that the paper does not compare with, over the same parts: any policy, any reward, one step of one loss."""
