;;; Diagnosis: which fault explains what is seen, and what to look at next.
;;;
;;; In:  a message `symptom` with the map {"name": "lights", "value": "dim"}; telling one again
;;;      changes it, and what rested on the old value is gone.
;;;      a message `diagnose`: answers [{"cause": ..., "certainty": ...}, ...], the surest first.
;;;      a message `next`: answers the symptom to look at next, or null when all are known.
;;;      a message `why` with a cause: answers the symptoms that speak for it.
;;;
;;; Certainties combine as in MYCIN: two reasons of 0.7 and 0.5 make 0.7 + 0.5 * 0.3 = 0.85.

(deftemplate symptom
  (slot name (type SYMBOL))
  (slot value (type SYMBOL))
  (slot ask))

;;; How much a symptom of this value speaks for a cause, from 0 to 1.
(deftemplate knowledge (slot cause) (slot symptom) (slot value) (slot weight (type FLOAT)))

(deftemplate evidence (slot cause) (slot symptom) (slot weight))

(deffacts engine-does-not-start
  (knowledge (cause flat-battery) (symptom lights) (value dim) (weight 0.7))
  (knowledge (cause flat-battery) (symptom starter) (value slow) (weight 0.5))
  (knowledge (cause bad-starter) (symptom starter) (value silent) (weight 0.6))
  (knowledge (cause bad-starter) (symptom lights) (value bright) (weight 0.3))
  (knowledge (cause no-fuel) (symptom gauge) (value empty) (weight 0.9))
  (knowledge (cause no-fuel) (symptom starter) (value turns) (weight 0.3))
  (knowledge (cause no-spark) (symptom starter) (value turns) (weight 0.3))
  (knowledge (cause no-spark) (symptom plugs) (value wet) (weight 0.7)))

(defrule a-symptom-told-again-replaces-the-old
  (declare (salience 10))
  ?old <- (symptom (name ?name))
  ?new <- (symptom (name ?name))
  (test (< (fact-index ?old) (fact-index ?new)))
  =>
  (retract ?old))

;;; Logical: the evidence goes when the symptom does.
(defrule a-symptom-is-evidence
  (logical (symptom (name ?name) (value ?value))
           (knowledge (cause ?cause) (symptom ?name) (value ?value) (weight ?weight)))
  =>
  (assert (evidence (cause ?cause) (symptom ?name) (weight ?weight))))

(deffunction certainty (?cause)
  (bind ?sum 0.0)
  (do-for-all-facts ((?e evidence)) (eq ?e:cause ?cause)
    (bind ?sum (+ ?sum (* ?e:weight (- 1.0 ?sum)))))
  ?sum)

(deffunction less-certain (?a ?b) (< (certainty ?a) (certainty ?b)))

;;; Every cause that anything speaks for, the surest first.
(deffunction suspects ()
  (bind ?causes (create$))
  (do-for-all-facts ((?e evidence)) (not (member$ ?e:cause ?causes))
    (bind ?causes ?causes ?e:cause))
  (if (> (length$ ?causes) 1) then (sort less-certain ?causes) else ?causes))

(defrule diagnose
  (message (kind diagnose))
  =>
  (bind ?list (create$))
  (progn$ (?cause (suspects))
    (bind ?list ?list (map-of cause ?cause certainty (certainty ?cause))))
  (reply (create$ [ ?list ])))

(defrule why
  (message (kind why) (body ?cause))
  =>
  (bind ?reasons (create$))
  (do-for-all-facts ((?e evidence)) (eq (str-cat ?e:cause) (str-cat ?cause))
    (bind ?reasons ?reasons ?e:symptom))
  (reply ?reasons))

;;; What would say most about the prime suspect; without one, what says most about anything.
(deffunction question ()
  (bind ?suspects (suspects))
  (bind ?best nil)
  (bind ?most 0.0)
  (do-for-all-facts ((?k knowledge))
      (and (not (any-factp ((?s symptom)) (eq ?s:name ?k:symptom)))
           (or (= (length$ ?suspects) 0) (eq ?k:cause (nth$ 1 ?suspects)))
           (> ?k:weight ?most))
    (bind ?best ?k:symptom)
    (bind ?most ?k:weight))
  ?best)

(defrule next
  (message (kind next))
  =>
  (reply (question)))
