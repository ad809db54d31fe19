"""Split inputs into payloads, and assemble the model's responses into outputs, as Batch Transform does.

The bytes of an input flow through ``source`` → ``splitter`` → ``lines`` and back. ``source`` reads the object, or only
the gaps that have no result yet, and decompresses it. ``splitter`` checks the first bytes against the content type and
feeds the chunks to ``lines``, which returns blocks of whole lines; a line that is too long is counted and not held.
``csv_lines`` finds lines of CSV that are no whole records. The splitter then packs the lines into payloads of one
record or of many. ``payload`` has the payload itself, the options, and the function that splits a payload in two.
``assembly`` makes the part of the output from a payload and the model's response.

The ranges of the payloads tile the input, so that a resume can begin at any of them. Nothing is decoded.

Read ``payload`` first, then ``splitter`` and ``lines``.
"""
