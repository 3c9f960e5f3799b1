; An example for `cpe map --function`: how heavy a penguin is for the length of its flippers; see
; docs/sleigh.md.
(deffunction sturdy (?millimetres ?grams)
  (if (> (/ ?grams ?millimetres) 21) then sturdy else slender))
