"""Cut inputs into payloads, and answers back into outputs, as Batch Transform does.

An input's bytes flow through ``source`` → ``splitter`` → ``lines`` → ``packer``. ``source`` reads the object, or only
the gaps that have no result yet, through ``gunzip`` where it is compressed. ``splitter`` checks the first bytes, and
feeds the chunks on. ``lines`` makes blocks of whole lines of them, and counts a line that is too long without holding
it; ``csv_lines`` finds lines of CSV that are no whole records. ``packer`` makes payloads of one record or of many.
``payload`` has the payload itself, the options, and how to cut one in two. ``assembly`` makes an output of a payload
and its answer.

The ranges of the payloads tile the input, so that a resume can begin at any of them. Nothing is decoded.

Read ``payload`` first, then ``splitter`` and ``packer``.
"""
