package faultsuite

func (r *row) draw(dir string) {}
