package check

import (
	"context"
	"fmt"
)

// Behind returns which partitions' checkpoints do not cover their last message yet, in words.
func Behind(ctx context.Context, source Source) (behind []string, err error) {
	for _, log := range logs {
		for number := range Partitions {
			last, err := source.Last(ctx, log.stream, fmt.Sprintf("%s.p.%d", log.prefix, number))
			if err != nil {
				return nil, err
			}
			if last == nil {
				continue
			}
			through := uint64(0)
			stored, err := source.Last(ctx, log.bucket, fmt.Sprintf("$KV.%s.c.%d", log.bucket[len("KV_"):], number))
			if err != nil {
				return nil, err
			}
			if stored != nil {
				c, err := decodeCheckpoint(stored.Data)
				if err != nil {
					return nil, err
				}
				through = c.sequence
			}
			if through < last.Sequence {
				behind = append(behind, fmt.Sprintf("partition %d of %s is folded through %d, its last message is %d", number, log.stream, through, last.Sequence))
			}
		}
	}
	return behind, nil
}
