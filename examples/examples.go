// Package examples is input for a first run. README.md says where it comes from.
package examples

import _ "embed" // for the log

// NASAName is the file name of the log that NASA holds.
const NASAName = "nasa-ipsc-1993.csv"

// NASA is the job log of the iPSC/860 at NASA Ames, of the last quarter of 1993, as holds: a CSV file with the
// header token_id,holder_id,start,end,weight and 18,239 lines after it, by 69 holders. Times are Unix seconds.
//
//go:embed nasa-ipsc-1993.csv
var NASA string
