; Which places are reached from which: joins and negation over facts that grow while it runs.
(deftemplate way (slot from) (slot to))
(deftemplate reach (slot from) (slot to))
(defglobal ?*seed* = 12345)
(deffunction draw (?n)
  (bind ?*seed* (mod (+ (* ?*seed* 1103515245) 12345) 2147483648))
  (mod (div ?*seed* 65536) ?n))
(deffunction lay (?places ?ways)
  (loop-for-count ?ways (assert (way (from (draw ?places)) (to (draw ?places))))))
(defrule begin (declare (salience 10)) (size ?places ?ways) => (lay ?places ?ways))
(defrule first (way (from ?a) (to ?b)) (not (reach (from ?a) (to ?b))) =>
  (assert (reach (from ?a) (to ?b))))
(defrule further
  (reach (from ?a) (to ?b)) (way (from ?b) (to ?c)) (not (reach (from ?a) (to ?c))) =>
  (assert (reach (from ?a) (to ?c))))
(deffacts size (size 300 800))
