"""Looking at a computation: graphs and their views.

Graphs: `making` (``ag.graph``, ``ag.record``, ``ag.draw``), `recording` and `notes` (a watcher of what runs), `graphs`
(the data, and its views as methods), `programs` (compiled programs as graphs).

What is known of a graph's parts: `statistics` (of values, worked out when looked at), `names` (that the user gave),
`work` (floating-point operations and bytes), `folding` (repeated blocks).

Views: `scene` (what is shown), `pictures` (DOT and its rendering), `pdf`, `text` (a tree for terminals, Mermaid),
`page` (HTML), `export` (JSON, its schema, and back), `tables` (``ag.summary``, pandas), `trace` (Chrome traces, flame
graphs), `compare` (differences and fingerprints).

Time: `profiler` (``ag.profile``), `measurements` (the facts that it notes, and the events made of them), `observed` (a
backward that is looked on, by recorders, too), `events` (what was measured, and its tables), `profile_page` (HTML),
`roofline`.

Mistakes: `debugging` (``ag.debug``), `searching` (``ag.find_nan``), `leaks` (``ag.leaks``), `flight` and `bundles`
(``ag.record_step``, ``ag.replay``), `gradient_reports` and `report_pages` (``ag.gradient_report``) with `calls` (each
operation and its rule by itself) and `references` (PyTorch's values beside ours).
"""
