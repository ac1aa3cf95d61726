"""A web shop in text with WebShop's interface and scoring (Yao et al. 2022, arXiv:2207.01206)."""
