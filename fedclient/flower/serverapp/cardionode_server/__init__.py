"""Rounds of a cardionode consortium on a Flower server. Rules in modules that know numpy alone; server_app.py alone
knows Flower."""
