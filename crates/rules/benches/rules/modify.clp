; A ring of cells, each of which takes in its neighbour's value, round after round.
(deftemplate cell (slot id) (slot left) (slot value) (slot done))
(deffunction ring (?n)
  (loop-for-count (?i 0 (- ?n 1))
    (assert (cell (id ?i) (left (mod (+ ?i 1) ?n)) (value ?i) (done 0)))))
(defrule begin (declare (salience 10)) (ring ?n) => (ring ?n) (assert (round 1)))
(defrule step
  (round ?r)
  ?c <- (cell (left ?l) (value ?v) (done ?d&:(< ?d ?r)))
  (cell (id ?l) (value ?w))
  =>
  (modify ?c (value (mod (+ ?v ?w) 1000)) (done ?r)))
(defrule next (declare (salience -10)) ?f <- (round ?r&:(< ?r 1000)) =>
  (retract ?f) (assert (round (+ ?r 1))))
(deffacts ring (ring 200))
