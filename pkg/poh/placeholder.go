package poh

// Encode appends the histogram to b.
func (h *Histogram) Encode(b []byte) []byte { return h.Append(b) }

// Reset empties the histogram and keeps its memory.
func (h *Histogram) Reset() { *h = Histogram{sketch: h.sketch[:0]} }
