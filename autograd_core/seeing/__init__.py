"""Looking at a computation: graphs and their views.

    making       ``ag.graph``, ``ag.record``, ``ag.draw``          graphs      the data, and its views as methods
    recording    a watcher that notes what runs                   statistics  what values are like, when looked at
    names        what the user called things                      work        floating-point operations and bytes
    folding      repeated blocks                                  pictures    DOT, and rendering it
    text         a tree for terminals, Mermaid                    export      JSON (its schema) and back
    compare      differences of two graphs, fingerprints          tables      ``ag.summary``, pandas
    trace        Chrome traces and flame graphs                   programs    a compiled program as a graph
"""
