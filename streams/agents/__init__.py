"""The hands: thin Faust agents, the pool that talks to providers, intake."""
