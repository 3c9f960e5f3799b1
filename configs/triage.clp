;;; Triage: what to do with a case that a random forest has judged.
;;;
;;; In:  a message or tuple `case` with the map
;;;        id            what the case is called
;;;        probability   of `malignant`, 0.0 to 1.0, as the forest says
;;;        votes         of how many trees this is the share (may be missing)
;;;        top-features  the features that weighed most, names or whole findings (may be missing)
;;; Out: a tuple ["decision", id, decision, reason] in the workspace `?*workspace*`, where the
;;;      decision is the symbol benign, malignant or second-opinion; the same as a map for a
;;;      sender who asked; and on a message `summary` the counts so far.
;;;
;;; Everything a clinic would tune stands in the globals.

(defglobal
  ?*workspace* = decisions
  ?*benign-below* = 0.15        ; at most this probability: confident
  ?*malignant-above* = 0.85     ; at least this probability: confident
  ?*votes-wanted* = 20)         ; fewer trees than this are not a vote

(deftemplate case
  (slot id)
  (slot probability (type NUMBER) (range 0.0 1.0) (default 0.5))
  (slot votes (type INTEGER) (range 0 ?VARIABLE) (default 100))
  (multislot top-features)
  (slot from)
  (slot ask (default nil)))

;;; Why a case needs a second opinion; a case may have several reasons.
(deftemplate doubt
  (slot id)
  (slot reason (type STRING)))

(deftemplate count
  (slot decision (type SYMBOL))
  (slot n (type INTEGER) (default 0)))

(deffacts counts
  (count (decision benign))
  (count (decision malignant))
  (count (decision second-opinion)))

(deffunction percent (?p)
  (format nil "%.1f%%" (* 100 ?p)))

(deffunction because-of (?features)
  (if (= (length$ ?features) 0)
    then ""
    else (str-cat "; weighed most: " (implode$ ?features))))

(deffunction decide (?case ?decision ?reason)
  (bind ?id (fact-slot-value ?case id))
  (out ?*workspace* "decision" ?id ?decision ?reason)
  (reply-to (fact-slot-value ?case ask) (map-of id ?id decision ?decision reason ?reason))
  (do-for-fact ((?c count)) (eq ?c:decision ?decision)
    (modify ?c (n (+ ?c:n 1))))
  (retract ?case))

;;; Doubts first, so that all of them are known when the case is decided.

(defrule doubt-between-the-thresholds
  (declare (salience 20))
  (case (id ?id)
        (probability ?p&:(> ?p ?*benign-below*)&:(< ?p ?*malignant-above*)))
  =>
  (assert (doubt (id ?id)
    (reason (str-cat "probability of malignant is " (percent ?p) ", between "
                     (percent ?*benign-below*) " and " (percent ?*malignant-above*))))))

(defrule doubt-too-few-votes
  (declare (salience 20))
  (case (id ?id) (votes ?n&:(< ?n ?*votes-wanted*)))
  =>
  (assert (doubt (id ?id)
    (reason (str-cat "only " ?n " trees voted, " ?*votes-wanted* " are wanted")))))

(defrule second-opinion
  (declare (salience 10))
  ?case <- (case (id ?id) (top-features $?features))
  (exists (doubt (id ?id)))
  =>
  (bind ?reasons "")
  (do-for-all-facts ((?d doubt)) (eq ?d:id ?id)
    (if (neq ?reasons "") then (bind ?reasons (str-cat ?reasons "; ")))
    (bind ?reasons (str-cat ?reasons ?d:reason))
    (retract ?d))
  (decide ?case second-opinion (str-cat ?reasons (because-of ?features))))

(defrule confident-benign
  ?case <- (case (id ?id) (probability ?p&:(<= ?p ?*benign-below*)) (top-features $?features))
  (not (doubt (id ?id)))
  =>
  (decide ?case benign
    (str-cat "probability of malignant is only " (percent ?p) (because-of ?features))))

(defrule confident-malignant
  ?case <- (case (id ?id) (probability ?p&:(>= ?p ?*malignant-above*)) (top-features $?features))
  (not (doubt (id ?id)))
  =>
  (decide ?case malignant
    (str-cat "probability of malignant is " (percent ?p) (because-of ?features))))

(defrule summary
  (declare (salience -10))
  (message (kind summary) (ask ?ask))
  (count (decision benign) (n ?benign))
  (count (decision malignant) (n ?malignant))
  (count (decision second-opinion) (n ?second-opinion))
  =>
  (reply-to ?ask
    (map-of benign ?benign malignant ?malignant second-opinion ?second-opinion)))
