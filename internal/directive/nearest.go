package directive

// Nearest returns the name that a word is most likely meant to be: the one with the fewest letters to change, to add, to remove or to
// exchange. It reports false if none is near.
func Nearest(word string, names []string) (nearest string, ok bool) {
	least := 1 + max(1, len(word)/3)
	for _, name := range names {
		if d := distance(word, name); d < least {
			nearest, least = name, d
		}
	}
	return nearest, nearest != ""
}

// distance returns the Damerau-Levenshtein distance of two words, where a letter moves once at most.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
