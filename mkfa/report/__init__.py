"""One HTML page with everything that is known of some banks and runs; it opens from disk, without a network.

`writing` has the verb. `inputs` sorts what was named, `analyses` takes stored analyses or computes missing ones,
`filters` packs weights, `comparisons`, `groups`, `keys`, `grafts`, `sweeps` and `verdicts` make the other parts, `html`
joins the page from the files in page/. `limits` says how much fits.
"""
