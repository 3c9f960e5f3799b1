;;; A seller who comes down step by step, and never below what the thing is worth to it.
;;; Its other half is buyer.clp.
;;;
;;; In:  a message `offer` with the map {"price": ..., "from": the buyer's name}.
;;; Out: to the buyer a message `sold` or `counter`, each with {"price": ..., "from": ...}.

(defglobal
  ?*reserve* = 60.0   ; not for less
  ?*step* = 0.85)     ; from one counter-offer to the next

(deftemplate offer (slot price (type NUMBER)) (slot from) (slot ask))

(deffacts start (asking 100.0))

(defrule agree
  ?offer <- (offer (price ?price) (from ?buyer))
  (asking ?wanted)
  (not (sold $?))
  (test (>= ?price ?wanted))
  =>
  (retract ?offer)
  (assert (sold ?buyer ?price))
  (tell ?buyer sold (map-of price ?price from (agent-name))))

(defrule come-down
  ?offer <- (offer (price ?price) (from ?buyer))
  ?asking <- (asking ?wanted)
  (not (sold $?))
  (test (< ?price ?wanted))
  =>
  (retract ?offer ?asking)
  (bind ?next (max ?*reserve* (* ?wanted ?*step*)))
  (assert (asking ?next))
  (tell ?buyer counter (map-of price ?next from (agent-name))))

(defrule too-late
  ?offer <- (offer (from ?buyer))
  (sold ?winner ?)
  (test (neq ?buyer ?winner))
  =>
  (retract ?offer)
  (tell ?buyer gone (map-of from (agent-name))))
