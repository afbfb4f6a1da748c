package check

import (
	"context"
	"fmt"
)

// Progress is how far a partition is folded.
type Progress struct {
	Partition string // such as "HOLDS/3"
	Last      uint64 // the sequence of its last message
	Folded    uint64 // what its checkpoint covers
}

// Progresses returns how far each partition is folded that has messages.
func Progresses(ctx context.Context, source Source) (all []Progress, err error) {
	for _, log := range logs {
		for number := range Partitions {
			last, err := source.Last(ctx, log.stream, fmt.Sprintf("%s.p.%d", log.prefix, number))
			if err != nil {
				return nil, err
			}
			if last == nil {
				continue
			}
			p := Progress{Partition: fmt.Sprintf("%s/%d", log.stream, number), Last: last.Sequence}
			stored, err := source.Last(ctx, log.bucket, fmt.Sprintf("$KV.%s.c.%d", log.bucket[len("KV_"):], number))
			if err != nil {
				return nil, err
			}
			if stored != nil {
				c, err := decodeCheckpoint(stored.Data)
				if err != nil {
					return nil, err
				}
				p.Folded = c.sequence
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// Behind returns those of the partitions that are not folded to their last message, in words.
func Behind(ctx context.Context, source Source) (behind []string, err error) {
	all, err := Progresses(ctx, source)
	for _, p := range all {
		if p.Folded < p.Last {
			behind = append(behind, fmt.Sprintf("%s is folded through %d, its last message is %d", p.Partition, p.Folded, p.Last))
		}
	}
	return behind, err
}
