module eventvault/reader

go 1.21
