;;; A planner with truth maintenance: routes that fall when a road they use is closed.
;;;
;;; In:  a message `road` with {"from": "a", "to": "b", "km": 7}: it is open, both ways.
;;;      a message `closed` with {"from": "a", "to": "b"}.
;;;      a message `goal` with {"from": "a", "to": "d"}.
;;;      a message `plan`: answers {"km": ..., "via": [...]}, or null when there is no way.
;;; Out: a tuple [plan, km, place...] in the workspace `plans` when the best route changes.
;;;
;;; A route rests on its roads (`logical`): nobody deletes routes, they go with what they rest on,
;;; and the next best one is found among those that still stand.

(deftemplate road (slot from) (slot to) (slot km (type NUMBER)) (slot ask))
(deftemplate closed (slot from) (slot to) (slot ask))
(deftemplate goal (slot from) (slot to) (slot ask))
(deftemplate route (slot to) (slot km) (multislot via))
(deftemplate announced (slot km) (multislot via))

(defrule roads-lead-both-ways
  (logical (road (from ?a) (to ?b) (km ?km)))
  =>
  (assert (way ?a ?b ?km) (way ?b ?a ?km)))

(defrule close-a-road
  (declare (salience 20))
  (closed (from ?a) (to ?b))
  ?road <- (road (from ?from) (to ?to))
  (test (or (and (eq ?a ?from) (eq ?b ?to)) (and (eq ?a ?to) (eq ?b ?from))))
  =>
  (retract ?road))

(defrule a-closing-is-heard-once
  (declare (salience 10))
  ?closed <- (closed)
  =>
  (retract ?closed))

(defrule a-new-goal-replaces-the-old
  (declare (salience 10))
  ?old <- (goal)
  ?new <- (goal)
  (test (< (fact-index ?old) (fact-index ?new)))
  =>
  (retract ?old))

(defrule begin-at-the-start
  (logical (goal (from ?start)))
  =>
  (assert (route (to ?start) (km 0) (via ?start))))

(defrule go-on
  (logical (route (to ?a) (km ?km) (via $?via)) (way ?a ?b ?more))
  (test (not (member$ ?b ?via)))
  =>
  (assert (route (to ?b) (km (+ ?km ?more)) (via ?via ?b))))

(deffunction shorter (?a ?b) (> (fact-slot-value ?a km) (fact-slot-value ?b km)))

;;; The shortest route to the goal, or FALSE.
(deffunction best ()
  (bind ?best FALSE)
  (do-for-all-facts ((?g goal) (?r route)) (eq ?r:to ?g:to)
    (if (or (not ?best) (shorter ?best ?r)) then (bind ?best ?r)))
  ?best)

(defrule plan
  (declare (salience -10))
  (message (kind plan))
  =>
  (bind ?best (best))
  (if ?best
    then (reply (map-of km (fact-slot-value ?best km) via (list-of (expand$
           (fact-slot-value ?best via)))))
    else (reply nil)))

(defrule announce
  (declare (salience -20))
  (goal (to ?end))
  (route (to ?end) (km ?km) (via $?via))
  (not (route (to ?end) (km ?less&:(< ?less ?km))))
  (not (announced (km ?km) (via $?via)))
  =>
  (do-for-all-facts ((?old announced)) TRUE (retract ?old))
  (assert (announced (km ?km) (via ?via)))
  (out plans plan ?km (expand$ ?via)))
